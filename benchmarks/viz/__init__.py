"""How fast logs are read, and how smoothly their page pans."""
