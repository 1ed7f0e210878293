"""What is no label: common things that compete as objects, and are drawn as nothing."""
