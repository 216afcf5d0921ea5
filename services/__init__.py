"""Business rules, by domain. Empty until their issue."""
