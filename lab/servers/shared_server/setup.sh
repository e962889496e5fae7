# Users keep their numbers: file trees live longer than this container.
{% for tenant in tenants -%}
groupadd --gid {{ tenant.uid }} {{ tenant.user }}
useradd --uid {{ tenant.uid }} --gid {{ tenant.uid }} --home-dir /srv/ireporter/{{ tenant.name }} --no-create-home --shell /usr/sbin/nologin {{ tenant.user }}
usermod --append --groups {{ tenant.user }} www-data
cd /etc/ireporter/{{ tenant.name }}
chown root:{{ tenant.user }} . server.toml
chmod 0755 .
chown {{ tenant.user }}:{{ tenant.user }} pgpass
chown root:www-data webdav.htpasswd
{% endfor -%}
cd /
install -d /etc/nginx/ireporter
chmod 0755 /srv/ireporter

# The cluster may be there already, in its volumes: then it is taken over as it is.
chown postgres:postgres /var/lib/postgresql
[[ -e /etc/postgresql/15/main/postgresql.conf ]] || pg_createcluster --locale C.UTF-8 --encoding UTF8 15 main >/dev/null
cp --recursive --no-preserve=all /etc/lab/postgresql/. /etc/postgresql/15/main/
chown -R postgres:postgres /etc/postgresql/15/main
chmod 0640 /etc/postgresql/15/main/pg_hba.conf /etc/postgresql/15/main/pg_ident.conf
enable postgresql.service nginx.service
applications=()
{% for tenant in tenants -%}
[[ ! -e /srv/ireporter/{{ tenant.name }}/settings/xml/License.xml ]] || applications+=({{ tenant.units | join(" ") }})
{% endfor -%}
# Lets systemd read its units again, these included.
DEBIAN_FRONTEND=noninteractive dpkg --install --force-unsafe-io /var/cache/lab/ireporter-standin.deb >/dev/null
[[ -z "${applications[*]}" ]] || systemctl enable --quiet --no-reload "${applications[@]}"
systemctl start postgresql@15-main.service nginx.service "${applications[@]}"
