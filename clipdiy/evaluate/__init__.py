"""How good is it? Data sets, the published protocol, the paper's tables, and the statistics to judge them by."""
