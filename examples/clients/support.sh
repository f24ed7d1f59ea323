#!/usr/bin/env bash
# The app support over REST: a session from its beginning to its end.
#
#     support.sh [MESSAGE]
set -euo pipefail

url=${BROKER_URL:-http://127.0.0.1:8080}
email=${EMAIL:-user@example.com}
password=${PASSWORD:-password123}

# A field of an object, or of the first of several.
field() {
    python3 -c 'import json, sys
answer = json.load(sys.stdin)
print((answer[0] if isinstance(answer, list) else answer)[sys.argv[1]])' "$1"
}
call() {
    local method=$1 path=$2 body=${3:-}
    curl --silent --show-error --fail-with-body -X "$method" "$url$path" -H "Authorization: Bearer $token" \
        ${body:+-H "Content-Type: application/json" -d "$body"}
}

token=
token=$(call POST /api/v1/auth/login "{\"email\":\"$email\",\"password\":\"$password\"}" | field access_token)

session=$(call POST /api/v1/chat/sessions '{"title":"Support Chat","assigned_agent_id":null}')
echo "session $session"
id=$(field id <<<"$session")

text=$(python3 -c 'import json, sys; print(json.dumps({"message_type": "text", "content": sys.argv[1]}))' \
    "${1:-Hello, I need help with my wallet}")
echo "sent $(call POST "/api/v1/chat/sessions/$id/messages" "$text")"

messages=$(call GET "/api/v1/chat/sessions/$id/messages?limit=50&offset=0")
echo "messages $messages"
read_up_to="{\"up_to_message_id\":\"$(field id <<<"$messages")\"}"
echo "read $(call POST "/api/v1/chat/sessions/$id/mark-read" "$read_up_to")"
echo "participants $(call GET "/api/v1/chat/sessions/$id/participants")"
echo "stats $(call GET /api/v1/chat/ws-stats)"
echo "closed $(call POST "/api/v1/chat/sessions/$id/close")"
