"""Where pictures come from: a task's values, fetched within limits from Label Studio or elsewhere."""
