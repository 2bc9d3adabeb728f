"""The console script: argv, Hydra, exit codes."""
