"""kdal: knowledge distillation with active learning, one experiment per command."""
