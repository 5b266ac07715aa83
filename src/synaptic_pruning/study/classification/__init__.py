"""The comparison on images: arms, cells, tables, pictures, report."""
