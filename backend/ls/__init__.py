"""The command line of the Label Studio side, `clipdiy-ls`."""
