"""How GPAW is built from PyPI: with MPI where its compiler is there, else serial."""

import shutil

mpi = shutil.which("mpic++") is not None
compiler = "mpic++" if mpi else "g++"
fftw = scalapack = mpi
libraries = ["xc", "openblas"]
if mpi:
    libraries += ["fftw3", "scalapack-openmpi"]
