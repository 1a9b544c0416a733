"""Kerchunk references, with which zarr, xarray and dask read a checkpoint in place."""
