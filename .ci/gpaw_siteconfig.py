"""Build GPAW without MPI on Debian's libraries; numpy's FFT serves as well here as FFTW."""

mpi = False
compiler = "g++"
fftw = False
libraries = ["xc", "openblas"]
