"""Kerchunk references, by which zarr, xarray and dask read the values in place."""
