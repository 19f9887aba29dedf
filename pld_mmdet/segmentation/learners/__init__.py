"""What several methods of this family are built on."""
