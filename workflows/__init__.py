"""ChRIS workflows, and the program that runs them."""
