"""Helpers for the server of an application: it signs tokens for its users, and publishes, reads and administers rooms over HTTP.

```python
from roomlog.server import RestClient, sign_token

token = sign_token(secret=SECRET, user="ann", rooms={"chat.*": ["read", "write"]})

def own_token():
    return sign_token(secret=SECRET, user="app", rooms={"*": ["write", "manage"]})

rest = RestClient("https://chat.example", token=own_token)
rest.publish("chat.general", {"text": "the shop is open"})
```

Needs more packages than the client: `pip install 'roomlog[server]'`.
"""

try:
    import httpx as _httpx
    import jwt as _jwt
except ImportError as error:
    raise ImportError(f"{error}: roomlog.server needs `pip install 'roomlog[server]'`") from error

from .operations import NewMessage, Subscription
from .rest import AsyncRestClient, RestClient
from .signing import Permission, sign_token

del _httpx, _jwt

__all__ = ["AsyncRestClient", "NewMessage", "Permission", "RestClient", "Subscription", "sign_token"]
