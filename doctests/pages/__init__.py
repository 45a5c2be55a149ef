"""The pages of the documentation: their blocks, and machines to run them on."""
