"""Services that the others stand on."""
