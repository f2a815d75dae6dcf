# Serial GPAW on Debian's libraries; FFTW is left out because numpy's FFT serves as well here.
mpi = False
compiler = "g++"
fftw = False
libraries = ["xc", "openblas"]
