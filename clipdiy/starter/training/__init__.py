"""How the bundled weights were trained: `make starter`. The running product never imports this folder."""
