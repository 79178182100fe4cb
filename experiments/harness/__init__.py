"""What every experiment needs and none owns: folders of records, processes, a pool, the machine, Markdown."""
