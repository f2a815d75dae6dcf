"""Foundation potentials."""
