"""Who sells labels: one file an oracle. The only code that sees a label before it is paid for."""
