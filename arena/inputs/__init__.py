"""What files and command lines may hold and name, checked before anything uses it."""
