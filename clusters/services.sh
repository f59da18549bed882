#!/usr/bin/env bash
# PostgreSQL and the MLflow tracking server of a cluster, on its head: services.sh start|stop|status|backup FILE.
# `start` leaves alone what runs, so it is safe at every `ray up`. Needs no root; everything is below ~/services.
set -euo pipefail
settings=$HOME/.config/robust-tuner
home=$HOME/services
data=$home/postgresql
port=5433            # not 5432: the distribution's own server may be there
web=5000
listen=${TUNER_SERVICES:-127.0.0.1}
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
python=$HOME/venv/bin/python
export PGPASSFILE=$settings/pgpass
umask 077
mkdir -p "$home"

sql() { "$bin/psql" -qAt -h "$listen" -p $port -U tuner -d "$1" -c "$2"; }

start_postgresql() {
  if [ ! -s "$data/PG_VERSION" ]; then
    rm -rf "$data" "$data.new"   # an initdb that was cut short
    "$bin/initdb" -D "$data.new" -U tuner -A scram-sha-256 -E UTF8 --locale=C.UTF-8 \
      --pwfile=<(cut -d: -f5 "$PGPASSFILE") >/dev/null
    mv "$data.new" "$data"
  fi
  "$bin/pg_ctl" -D "$data" status >/dev/null 2>&1 && return
  if [ "$listen" = 127.0.0.1 ]; then addresses=$listen; else addresses=127.0.0.1,$listen; fi
  {
    echo "host all all 127.0.0.1/32 scram-sha-256"
    [ "$listen" = 127.0.0.1 ] || echo "host all all samenet scram-sha-256"
  } >"$data/pg_hba.conf"
  # </dev/null and the log file: `ssh -tt` would wait for whoever holds its terminal
  "$bin/pg_ctl" -D "$data" -w -t 120 -l "$home/postgresql.log" start </dev/null >/dev/null \
    -o "-c listen_addresses=$addresses -c port=$port -c unix_socket_directories= -c max_connections=100" ||
    { tail -5 "$home/postgresql.log" >&2; exit 1; }
  for database in studies mlflow mlflow_auth; do
    [ "$(sql postgres "select 1 from pg_database where datname = '$database'")" = 1 ] ||
      sql postgres "create database $database"
  done
}

mlflow_pid() {
  local pid
  pid=$(cat "$home/mlflow.pid" 2>/dev/null) && grep -qa "mlflow" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

start_mlflow() {
  mlflow_pid >/dev/null && return
  local user password
  user=$(sed -n 's/^mlflow_tracking_username *= *//p' "$settings/mlflow_credentials")
  password=$(sed -n 's/^mlflow_tracking_password *= *//p' "$settings/mlflow_credentials")
  [ -s "$home/secret_key" ] || head -c 32 /dev/urandom | base64 >"$home/secret_key"
  # libpq finds the databases' password in $PGPASSFILE; passwords are in no command line and in no log
  cat >"$home/basic_auth.ini" <<END
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = postgresql+psycopg2://tuner@$listen:$port/mlflow_auth
admin_username = $user
admin_password = $password
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
END
  export MLFLOW_AUTH_CONFIG_PATH=$home/basic_auth.ini
  MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$home/secret_key")
  export MLFLOW_FLASK_SERVER_SECRET_KEY
  export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false   # seven more processes and a gigabyte otherwise
  # the server's own address must not steer it; setsid: it outlives the ssh session and is no child of Ray
  env -u MLFLOW_TRACKING_URI setsid nohup "$python" -m mlflow server --app-name basic-auth \
    --backend-store-uri "postgresql+psycopg2://tuner@$listen:$port/mlflow" \
    --artifacts-destination "${TUNER_ARTIFACTS:-$home/artifacts}" \
    --host "$listen" --port $web --workers 2 --allowed-hosts "localhost,127.0.0.1,$listen,localhost:*,127.0.0.1:*,$listen:*" \
    </dev/null >"$home/mlflow.log" 2>&1 &
  echo $! >"$home/mlflow.pid"
  for _ in $(seq 360); do
    "$python" -c "import urllib.request as u; u.urlopen('http://$listen:$web/health', timeout=2)" 2>/dev/null && return
    mlflow_pid >/dev/null || break
    sleep 0.5
  done
  tail -20 "$home/mlflow.log" >&2
  exit 1
}

case "${1:-start}" in
  start)
    start_postgresql
    start_mlflow
    echo "services: PostgreSQL $listen:$port (pid $(head -1 "$data/postmaster.pid")), MLflow $listen:$web (pid $(mlflow_pid))" ;;
  stop)
    if pid=$(mlflow_pid); then kill -- "-$pid"; fi   # setsid made it the leader of its group
    rm -f "$home/mlflow.pid"
    "$bin/pg_ctl" -D "$data" -m fast stop >/dev/null 2>&1 || true ;;
  status)
    "$bin/pg_ctl" -D "$data" status | head -1 || true
    if pid=$(mlflow_pid); then echo "mlflow: runs (pid $pid)"; else echo "mlflow: down"; fi ;;
  backup) "$bin/pg_dumpall" -h "$listen" -p $port -U tuner --no-role-passwords >"${2:?backup FILE}" ;;
  *) echo "usage: services.sh start|stop|status|backup FILE" >&2; exit 2 ;;
esac
