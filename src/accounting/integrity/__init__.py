"""Whether the whole store is sound: examine it, name what is wrong, repair what can be."""
