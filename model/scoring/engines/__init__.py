"""What multiplies the matrices: one merged classifier behind one small interface, in one library and one arithmetic."""
