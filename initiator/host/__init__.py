"""What Linux says about itself; read only."""
