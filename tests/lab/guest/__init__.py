"""Programs that run inside the lab's guest; they use nothing but Debian's Python."""
