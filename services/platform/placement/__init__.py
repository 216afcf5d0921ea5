"""The directory of tenants: which region is home to whom, by an epoch that grows with each change.

For: operators, who place and move tenants; tenants, who may see where they live; every region's
door and kit, which ask before they serve. Owns: placements, and each region's copy of them.
Publishes: nothing. Consumes: nothing.
"""
