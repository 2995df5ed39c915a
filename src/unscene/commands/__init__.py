"""What the verbs of the command line need beyond calling the library."""
