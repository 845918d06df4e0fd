"""Foreign file formats: HDF5 as byte ranges, MATLAB 5 arrays and cell strings, JPEG; no data set of its own."""
