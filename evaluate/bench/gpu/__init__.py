"""What a first GPU is needed for, and other ways of computing a step beside the one that is shipped."""
