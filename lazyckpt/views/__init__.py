"""What people look at: trees, tables and pictures of values, from what is known of them. Imports no checkpoint."""
