"""Arrays as other frameworks' tensors: leaves that are imported when a conversion is asked for, and only then."""
