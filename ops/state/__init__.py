"""Where a region's state is kept: PostgreSQL and Valkey run by us, or yours by address."""
