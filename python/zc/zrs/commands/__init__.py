"""The commands of ``zrs``, one module each, with the arguments that it takes."""
