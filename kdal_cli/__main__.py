"""`python -m kdal_cli` is `kdal`."""

from kdal_cli.cli.main import main

if __name__ == "__main__":
    main()
