"""The lowest floor: names, numbers, caps and error roots that everything else is written in."""
