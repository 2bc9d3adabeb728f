"""Many runs side by side: read, paired, judged."""
