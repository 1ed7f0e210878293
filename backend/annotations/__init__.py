"""What stands in an annotation: masks of every form, and which of a task's annotations count."""
