"""A small service for tests of the kit: notes with a title and a secret, one version each."""
