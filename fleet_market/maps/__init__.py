"""The floor: occupancy grid, roadmap, named places; distances and reachability."""
