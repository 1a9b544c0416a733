"""Kerchunk references, with which zarr, xarray and dask read the values of a checkpoint in place."""
