"""References: a file that tells zarr, xarray and dask where in a checkpoint every value lies, in kerchunk's format."""
