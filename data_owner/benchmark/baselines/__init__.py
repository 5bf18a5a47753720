"""The systems Fair4Free is compared with, one file each. None of them is part of a deployed owner."""
