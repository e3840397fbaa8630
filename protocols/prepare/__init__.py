"""From a data set's official archives to the files that its reader reads, and whether they are sound."""
