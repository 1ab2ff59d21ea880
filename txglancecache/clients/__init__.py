"""What both sites allow their clients: whom they let in, what they read, how long they wait."""
