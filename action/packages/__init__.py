"""Say which Python packages a repository needs: declared, or inferred from its imports."""
