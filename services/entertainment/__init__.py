"""Shows, doors, games: what people come for."""
