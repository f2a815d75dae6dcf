"""Templates, styles and scripts of reports; 3Dmol.js is others' work, under its own licence."""
