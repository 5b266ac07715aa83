"""Remove units that nothing reaches, so that layers get narrower."""
