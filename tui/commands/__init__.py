"""The commands of `mooring`, by what they are for. None of them imports Textual."""
