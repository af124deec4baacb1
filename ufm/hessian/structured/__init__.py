"""Complete spectra at structured points: collapsed, symmetric, or zero in some dimensions."""
